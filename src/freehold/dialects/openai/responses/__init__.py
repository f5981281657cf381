"""OpenAI's Responses API: answers as lists of items, streams of named events, conversations that the server keeps.

`schema` holds the wire types with their bounds, `translate` and `items` the way in, `answers` the way out (all pure),
`state` what is kept between requests, `routes` the handlers.
"""
