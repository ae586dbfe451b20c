"""What is wrong with a corpus, a run or a row: findings, rows shown, and the leak test."""
