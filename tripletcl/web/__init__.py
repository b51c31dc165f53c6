"""The page of `tripletcl serve`: what a run knew after each task, next to another method.

`views` makes the content, without Gradio; `page` and its tabs lay it out.
"""
