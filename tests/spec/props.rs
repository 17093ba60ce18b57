//! Random values of every codec come back, and encode to the same bytes.
