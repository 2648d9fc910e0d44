"""One rule for each op type; families share a maker. See `passes.graph.op` for what a rule may say."""
