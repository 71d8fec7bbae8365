"""The way from each released schema to the next, run at server start."""
