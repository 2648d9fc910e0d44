"""Models of which each run takes one sample, such as graph networks: samples get an axis of their own in front."""
