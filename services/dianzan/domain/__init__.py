"""What a campaign, a voter and a like are: pure, without input or output."""
