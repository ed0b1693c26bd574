"""The service over HTTP: queries, requests, waiting, paging and documents."""
