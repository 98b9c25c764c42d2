"""A dataset becomes batches: loading, tokenizing, batching, word vectors."""
