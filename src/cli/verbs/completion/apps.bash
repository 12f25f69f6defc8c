# The names of apps where a verb takes them: those that are there, as `pm3 list` tells. Without a supervisor there are
# none, and none is started.
_pm3_with_apps() {
    _pm3 "$@"
    local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD - 1]} verb= files= word line name
    [[ $cur == -* ]] && return
    case $prev in
        @VALUES@) return ;;
    esac
    for word in "${COMP_WORDS[@]:1:COMP_CWORD - 1}"; do
        case $word in
            --) return ;;
            -*) ;;
            *) [[ $verb ]] || verb=$word ;;
        esac
    done
    case $verb in
        @APPS@) compopt +o default +o bashdefault ;;
        @FILES@) files=yes ;;
        *) return ;;
    esac
    COMPREPLY=()
    while IFS= read -r line; do
        name=${line#+--- }
        # Each instance tells the name. Readline quotes what it takes for files; the rest is quoted here.
        [[ $name != "$line" && $name == "$cur"* ]] || continue
        [[ $files ]] || printf -v name %q "$name"
        [[ " ${COMPREPLY[*]} " == *" $name "* ]] || COMPREPLY+=("$name")
    done < <(command "$1" list --mini-list 2>/dev/null)
    if [[ $files && ${#COMPREPLY[@]} -gt 0 ]]; then
        compopt -o filenames
        while IFS= read -r name; do COMPREPLY+=("$name"); done < <(compgen -f -- "$cur")
    fi
}

