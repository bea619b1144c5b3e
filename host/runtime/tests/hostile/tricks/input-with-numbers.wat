;; trick: an input with the largest numbers there are, and a name twice
;; at: fine
;; expect: {"a":1.7976931348623157e308,"b":18446744073709551615,"c":-9223372036854775808,"d":2}
;; input: {"a":1.7976931348623157e308,"b":18446744073709551615,"c":-9223372036854775808,"d":1,"d":2}
