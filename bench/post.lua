-- SPDX-License-Identifier: MIT
-- For wrk: POST with a body of 1.5 KiB.
wrk.method = "POST"
wrk.body = string.rep("x", 1536)
wrk.headers["Content-Type"] = "application/octet-stream"
