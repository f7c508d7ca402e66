"""`cmt serve`: answers, the bank and their numbers over HTTP, for programs, OpenAI clients and one
web page.
"""
