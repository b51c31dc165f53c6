"""Names that do harm on a page that trusts them."""

EVIL_PHOTO = "<img src=x onerror=alert(1)>.jpg"
EVIL_WORD = "<script>alert(2)</script>${alert(3)}{{this}}"
