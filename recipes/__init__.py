"""Complete parameter files, one per study; `strata init` copies them."""
