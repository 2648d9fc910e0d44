"""The axis rule and the facts of each op type; families of ops share a file.

See `passes.axes.rule_context` for what a rule may state, and `passes.axes.op_facts` for the facts.
"""
