"""Files of an Inference Endpoint, which are pushed beside a classifier and run without this package."""
