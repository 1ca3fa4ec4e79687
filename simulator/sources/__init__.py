"""Where real rows come from: a known truth, or a data set, a text, captions or scenes with a held-out split."""
