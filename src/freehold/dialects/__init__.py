"""Vendors' wire formats, one folder each: wire -> Request, Event -> wire. No IO, no policy.

A folder registers itself by being there: `routes.DIALECT` names its mounts, routes and error shape.
"""
