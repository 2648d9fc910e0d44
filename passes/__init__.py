"""What happens to a graph: one file per pass, over ``passes.graph`` (what a graph is) and ``passes.numerics`` (arrays)."""
