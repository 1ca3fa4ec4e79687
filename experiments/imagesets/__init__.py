"""Image sets on disk, of people who have their own: reading, writing, contaminating and comparing them."""
