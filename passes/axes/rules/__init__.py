"""One axis rule for each op type, and beside it the op's facts; families of ops share a file.

See `passes.axes.rule_context` for what a rule may say, `passes.axes.op_facts` for the facts.
"""
