"""A chain driven from the host, kept, resumed, swept, and spread over devices."""
