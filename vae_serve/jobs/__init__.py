"""Plan, shards, commit, and the engines that run them."""
