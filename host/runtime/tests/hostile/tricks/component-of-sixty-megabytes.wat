;; trick: a component of sixty megabytes, nearly all of it in a section that means nothing
;; at: fine
;; expect: {}
;; pad: 62914560
