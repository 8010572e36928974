"""From detections to a verdict: matches, average precision, intervals, rules."""
