;; trick: an action whose name is a path
;; at: load
;; expect: an action is called `../act`; a name has a-z, 0-9 and `-`
;; action: ../act {}
