"""What the container image is made of; see Dockerfile."""
