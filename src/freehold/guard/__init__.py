"""What comes in is checked here, once for all dialects: strict JSON, the caps of what can be nested or repeated, and
where a request may come from.

Every check raises a FreeholdError; none asserts.
"""
