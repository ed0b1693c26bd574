"""The Opportunity API served on this machine; `opp_pandas.sandbox` is its door."""
