"""CacheFL in JAX: federated fine-tuning of vision-language models by a cache of synthetic images."""
