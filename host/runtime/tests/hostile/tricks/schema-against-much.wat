;; trick: a large schema that its caller's large input fits only at the very end, value by value
;; at: invoke
;; expect: it has 20001 values; by a schema like this one,
;; input: [<<19999 2999,>>2999]
;; action: act {"items":{"anyOf":[<<3000 {"const":%},>>{}]}}
