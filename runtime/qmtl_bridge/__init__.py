"""Between qmtl and the factory: returns out of a DAG, betas into it.

Rule: nothing outside this folder imports qmtl, and in here only `sdk` does. Users take
its names from `beta_factory.qmtl`.
"""
