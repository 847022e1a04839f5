"""From anomaly maps to pseudo-defect boxes (Eq. 9 to 11): one map, and the files that hold the boxes of a store."""
