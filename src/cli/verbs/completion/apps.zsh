# The names of apps where a verb takes them: those that are there, as `pm3 list` tells. Without a supervisor there are
# none, and none is started.
(( $+functions[_pm3_apps] )) ||
_pm3_apps() {
    local -aU apps
    local expl
    apps=(${${(M)${(f)"$(_call_program apps command pm3 list --mini-list 2>/dev/null)"}:#+--- *}#+--- })
    _wanted apps expl app compadd -a apps
}
(( $+functions[_pm3_apps_or_files] )) ||
_pm3_apps_or_files() {
    _alternative 'apps:app:_pm3_apps' 'files:file:_files'
}

