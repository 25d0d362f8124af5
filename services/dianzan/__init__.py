"""dianzan (点赞): what the vote API, the tally worker and the results API share."""
