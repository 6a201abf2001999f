"""The study ``extractor``: what extractors take from a sequence, on made-up laws and on recorded trainings."""
