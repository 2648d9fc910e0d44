"""Is the result a sound model that computes what the original does?"""
