"""The page that `tripletcl serve` shows: what a run knew after each task, beside another method.

What is shown is made without Gradio (`views` and what it calls); `page` and its tabs lay it out.
"""
