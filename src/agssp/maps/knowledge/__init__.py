"""What is known about the defects of metal products, in words: one YAML file a family, read by `KnowledgeBase.load`."""
