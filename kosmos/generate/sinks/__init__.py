"""Where answers go, one by one: words, JSON, lines that survive a kill, COCO, drawings, a page."""
