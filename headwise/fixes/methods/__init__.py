"""Methods of papers, one per file, each with its private helpers beside it."""
