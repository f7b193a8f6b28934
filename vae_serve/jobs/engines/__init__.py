"""Ways to run a job's missing shards."""
