"""A forecast as people read it: text tables and HTML, from the same rows."""
