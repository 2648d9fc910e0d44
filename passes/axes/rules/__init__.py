"""One rule for each op type; families share a maker. See `passes.axes.rule_context` for what a rule may say."""
