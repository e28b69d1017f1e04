SHA256SUMS.sig is not looked into
