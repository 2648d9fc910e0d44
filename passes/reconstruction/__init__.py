"""New weights for the layers behind removed channels, solved on samples."""
