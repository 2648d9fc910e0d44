"""What happens to a graph: a file a pass, over ``passes.graph`` (what a graph is) and ``passes.numerics`` (arrays)."""
