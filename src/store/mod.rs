//! The store: objects in a bucket or a folder.
