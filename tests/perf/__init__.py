"""The measuring tools measure what they say."""
