"""A plan carried out: tensors cut, consumers mixed, integers that name sizes updated."""
