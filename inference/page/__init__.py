"""What app.py serves: a page that restores images and videos in the browser of the same machine."""
