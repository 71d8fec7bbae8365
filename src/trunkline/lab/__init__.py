"""A whole cloud on one machine, from network namespaces, and the article's scenarios on it."""
