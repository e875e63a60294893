"""Ray clusters: local, on AWS, on Kubernetes."""
