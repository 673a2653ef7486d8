"""Any HTTP service as a Type=notify service: started, warmed up, watched, ended when it is broken.

`plan` is what to run and what to ask; `charge` the process in our care; `start`, `watch` and
`supervisor` its life, in that order.
"""
